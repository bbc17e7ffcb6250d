"""What the docstrings of MLPClassifier and MLPRegressor have in common."""

from __future__ import annotations

PARAMETERS = """
    hidden_layer_sizes   units of each hidden layer, an integer or a sequence; () for none
    activation           "relu", "logistic", "tanh", "identity", or any of
                         `gradnet.nn.activations.names()`
    solver               "adam", "sgd", "lbfgs", or any of `gradnet.optim.names()`
    alpha                strength of the L2 penalty, alpha / 2 sum w^2 over the rows of a batch;
                         biases are left alone
    batch_size           rows of a step; "auto" is the smaller of 200 and all rows
    learning_rate        "constant"; for "sgd" also "invscaling" (learning_rate_init / t^power_t, t
                         the rows seen) and "adaptive" (a fifth, each time the loss stands still);
                         or any of `gradnet.optim.schedule_names()`
    learning_rate_init   the learning rate, at first
    max_iter             epochs at most; iterations at most where the solver searches along lines
    max_fun              evaluations at most, of such a solver
    shuffle              rows in another order in each epoch
    random_state         decides weights, validation rows, order of rows and dropout
    tol                  the improvement that counts; of "lbfgs" the largest gradient at a minimum
    n_iter_no_change     epochs without such an improvement until a fit ends; may be infinite
    verbose              print the loss of each epoch
    warm_start           `fit` goes on where the last one ended: weights, moments, learning rate
    momentum, nesterovs_momentum   of "sgd"
    beta_1, beta_2, epsilon        of "adam", "adamw" and "nadam"
    early_stopping       watch a score of validation rows, not the training loss, and end with the
                         weights of the best epoch
    validation_fraction  rows held out for that, of classes in equal shares, unless `fit` is given
                         X_val, y_val
    monitor              the score: any of `gradnet.training.metric_names()`, "loss", or a function
                         of (y, prediction); by default {score}
    dropout              probability of dropping a hidden unit in training
    device               "cpu", "cuda", "cuda:1": where to compute
"""

ATTRIBUTES = """
    Attributes: coefs_, intercepts_ (lists of arrays, in the dtype of X: float64 or float32), loss_,
    loss_curve_, best_loss_, validation_scores_, best_validation_score_, n_iter_, t_ (rows seen),
    learning_rate_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_,
    early_stopped_ (whether a `partial_fit` that watches X_val has come to its end){more}.
    The weights may be set; what is predicted follows them.
"""
