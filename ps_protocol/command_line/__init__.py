"""What every command does about signals, unread output and the width of a terminal. Imports nothing of ours."""
