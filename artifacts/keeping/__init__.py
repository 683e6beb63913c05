"""What is done with releases later: promotion, policy, repair, history, and making reports again."""
