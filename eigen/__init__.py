"""The method of the paper: stacks, network, training, responses, eigenfeatures and figures."""
