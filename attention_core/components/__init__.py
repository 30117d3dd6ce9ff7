"""What scorers, normalizers and biases share: parameters, configs, equality, origin."""
