"""What templates say in many places."""
