"""`make book`: notebooks are executed, the site is rendered."""
