"""Facts that workers and services share; so light that they may be imported from anywhere."""
