"""The extensions that come with allkit; they enter through the same hooks as everyone's."""
