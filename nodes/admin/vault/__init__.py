"""The Vault screen and its popups."""
