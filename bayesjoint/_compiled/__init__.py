"""A problem as compiled functions of a flat point: densities, coordinates, values, draws."""
