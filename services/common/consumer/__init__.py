"""What follows the log: handlers run once an event, in order of its key; what fails waits in letters."""
