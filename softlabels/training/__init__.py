"""What a trainer imports: the PyTorch dataset and its patches."""
