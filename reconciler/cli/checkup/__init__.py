"""What `imgctl doctor` looks at: `run` goes through it, the others are its areas."""
