package listen

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// A certificate is read again when one of its files has changed, so that it can
// be renewed without a restart.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	seen    [2]os.FileInfo // of the files when they were last read, successfully or not
}

// TLS is a server's configuration with the certificate, and the chain behind
// it, in certFile and its key in keyFile, both PEM. Whenever they change they
// are read again; while that fails, as it does when the one has been replaced
// and the other not yet, the certificate at hand stays in use.
func TLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.seen = c.look()
	if err := c.read(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// get is asked at each handshake, which costs a hundred times as much as to look
// at two files.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.look(); changed(c.seen[0], now[0]) || changed(c.seen[1], now[1]) {
		c.seen = now // as it was before reading: what changes meanwhile is read again
		if err := c.read(); err != nil {
			c.log.Error("the new certificate cannot be used; the one at hand stays", "error", err)
		} else {
			c.log.Info("certificate read again", "expires", c.current.Leaf.NotAfter)
		}
	}
	return c.current, nil
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("reading certificate %s and key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current = &pair
	return nil
}

// look has nil for a file that is not there.
func (c *certificate) look() (info [2]os.FileInfo) {
	info[0], _ = os.Stat(c.certFile)
	info[1], _ = os.Stat(c.keyFile)
	return info
}

// changed also tells files apart that were made at the same time.
func changed(before, after os.FileInfo) bool {
	if before == nil || after == nil {
		return before != after
	}
	return !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) || before.Size() != after.Size()
}
