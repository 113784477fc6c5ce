"""The hosts of the application."""
