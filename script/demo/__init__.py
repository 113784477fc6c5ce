"""What script/run does once Python is there: the console and a vault pair on this machine, in the foreground."""
