"""Electricity prices in the shapes of others, as rows of prices: ENTSO-E's documents and tables, and OpenEI's rates."""
