"""Covariances of the errors that modalities share, and likelihoods with them integrated out."""
