"""What is built, as files: notebooks, their parameters and jobs, tables to download. Nothing is executed."""
