"""Model -> numbers."""
