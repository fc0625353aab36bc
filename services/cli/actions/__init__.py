"""What the commands do. Only a command that runs imports these modules, so they may be heavy."""
