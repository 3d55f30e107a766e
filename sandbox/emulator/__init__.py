"""The sandbox's AWS endpoint: ministack in front, moto behind it, and what neither has."""
