"""What is to be built: notebooks as files, their parameters, the jobs they make. Nothing is executed."""
