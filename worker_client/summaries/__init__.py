"""TensorFlow 1's summaries, and the event files that TensorBoard shows. Imports no training and no sessions."""
