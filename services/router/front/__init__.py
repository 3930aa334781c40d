"""The OpenAI front door: their JSON in, our requests and events inside, their JSON and server-sent events out."""
