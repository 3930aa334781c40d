"""The canvas: the panes that stand beside a conversation."""
