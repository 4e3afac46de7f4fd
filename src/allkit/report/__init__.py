"""What is written for people: pictures and the model card."""
