"""Numbers from the weights of one network: what is kept of an end, neighbours, cosets, sharpness."""
