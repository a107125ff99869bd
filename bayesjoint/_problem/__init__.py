"""What a problem checks, keeps, holds fixed and takes apart."""
