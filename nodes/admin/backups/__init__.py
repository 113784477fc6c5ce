"""System → High Availability → Backups."""
