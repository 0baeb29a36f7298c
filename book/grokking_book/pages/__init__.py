"""What pages say that is computed for them: exercises with answers, settings in words."""
