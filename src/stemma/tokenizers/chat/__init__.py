"""Conversations as ids: chat templates in a sandbox, and who wrote which token."""
