"""App Services: the table, Setting, log, Start, Stop and Run Now."""
