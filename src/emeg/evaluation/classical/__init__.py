"""Classical baselines: band power, tangent space, logistic regression."""
