"""The shared base of scorers, normalizers and biases: parameters, configs, equality, origin."""
