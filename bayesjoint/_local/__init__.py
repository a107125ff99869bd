"""A problem at a point: mode, curvature, coupled prior, likelihood-informed spectrum."""
