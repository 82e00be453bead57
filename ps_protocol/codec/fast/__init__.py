"""The headers of the commonest messages, written and read by hand: the same bytes as protobuf's, sooner."""
