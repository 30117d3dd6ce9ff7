"""Which keys each query may attend to, and the bias added to its scores."""
