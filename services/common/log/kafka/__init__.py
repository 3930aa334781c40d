"""The log in Kafka: the same promises, kept with aiokafka."""
