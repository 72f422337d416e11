"""From a picture or tensor to an answer, without a transport."""
