"""The online half: pictures and tensors in, answers out, with no HTTP in it."""
