"""What an operator writes: variables, files of variables, secrets by reference."""
