"""What the command line is made of: options of problem(), messages, faults of model files."""
