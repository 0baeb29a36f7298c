"""What is not left to tensor operations: loops for a CPU in Numba. No networks, no files."""
