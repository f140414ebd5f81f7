package ftpconn

import "context"

type guessKey struct{}

// Guess marks what is asked with the returned context as a guess: it is done on a session that is free, or
// that the server lets be opened, while nobody waits for one; otherwise it fails at once with ErrNoneFree.
func Guess(ctx context.Context) context.Context { return context.WithValue(ctx, guessKey{}, true) }

// IsGuess says that ctx is marked.
func IsGuess(ctx context.Context) bool { return ctx.Value(guessKey{}) != nil }

// ErrNoneFree is what becomes of a guess while all sessions are needed.
var ErrNoneFree = errBusy

// classFor is the class of session that an operation gets.
func classFor(ctx context.Context, c class) class {
	if IsGuess(ctx) {
		return classAhead
	}
	return c
}
