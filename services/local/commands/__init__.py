"""What `soma` can do, one file a subject. Each imports what it needs when it is called: the command starts fast."""
