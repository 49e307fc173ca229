"""What actions print: taken from the spool, redacted, kept beside the log, followed live."""
