"""Messages, queues, and the broker that carries them."""
