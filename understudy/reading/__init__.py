"""Files as people have them: what each is by its content, its text, and who speaks where the format knows it."""
