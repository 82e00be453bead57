"""Floods: clients that have no right and mean no good, a few at a time, and what a well-behaved one notices of them."""
