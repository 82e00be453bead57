"""The process of a ps task: options, logs, start, heartbeats, end. On top of all other rooms."""
