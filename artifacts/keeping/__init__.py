"""What is done with releases later: promotion, repair, history, and making reports again."""
