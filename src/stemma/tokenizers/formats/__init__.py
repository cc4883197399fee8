"""The file formats that vocabularies come in."""
