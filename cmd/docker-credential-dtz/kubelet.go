package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// kubeletAPI is the version of the kubelet's credential provider API that is
// spoken, stable since Kubernetes 1.26. Its types are in k8s.io/kubelet,
// pkg/apis/credentialprovider/v1.
const kubeletAPI = "credentialprovider.kubelet.k8s.io/v1"

const (
	// kubeletLimit is for the whole answer: the kubelet kills a plugin after a
	// minute, and then nobody learns why it was slow.
	kubeletLimit = 50 * time.Second
	// maxKubeletRequest is more than an image, a token and the annotations of a
	// service account, 256 KiB at most, come to, in bytes.
	maxKubeletRequest = 1 << 20
)

func (sys system) newKubelet() *cobra.Command {
	return &cobra.Command{
		Use:   "kubelet",
		Short: "Answer a credential for the image in the request on standard input",
		Long: `The kubelet's credential provider plugin, ` + kubeletAPI + `: a
CredentialProviderRequest on standard input, a CredentialProviderResponse on
standard output. docs/kubelet.md has the configuration.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.kubelet(cmd.Context()) },
	}
}

// kubelet answers one request. The kubelet logs standard error of a plugin that
// fails, and no other.
func (sys system) kubelet(interrupted context.Context) error {
	if isTerminal(sys.stdin) {
		return withHint(usagef("kubelet is called by Kubernetes and reads a request on standard input"), "docs/kubelet.md has the configuration")
	}
	limit, note := sys.timeout()
	ctx, cancel := context.WithTimeout(interrupted, min(limit, kubeletLimit))
	defer cancel()
	answer, err := inTime(ctx, sys.answerKubelet)
	switch {
	case err != nil && interrupted.Err() != nil:
		return exitError(exitInterrupted)
	case err != nil && note != "":
		err = fmt.Errorf("%w (%s)", err, note)
	case err == nil && note != "":
		sys.warn(note)
	}
	if err != nil {
		sys.warn(err.Error())
		return exitError(exitFailure)
	}
	_, err = io.WriteString(sys.stdout, answer)
	return err
}

// kubeletResponse is a CredentialProviderResponse. The kubelet refuses one with
// fields that it does not know.
type kubeletResponse struct {
	APIVersion    string                 `json:"apiVersion"`
	Kind          string                 `json:"kind"`
	CacheKeyType  string                 `json:"cacheKeyType"`
	CacheDuration string                 `json:"cacheDuration"`  // as time.Duration prints it
	Auth          map[string]kubeletAuth `json:"auth,omitempty"` // by registry; null where there is nothing to give
}

type kubeletAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func (sys system) answerKubelet(ctx context.Context, asked chan<- config.Address) (string, error) {
	input, err := sys.readInput(ctx, maxKubeletRequest)
	if err != nil {
		return "", err
	}
	image, err := requestedImage(input)
	if err != nil {
		return "", err
	}
	answer := kubeletResponse{
		APIVersion: kubeletAPI, Kind: "CredentialProviderResponse", CacheKeyType: "Registry",
		CacheDuration: "0s", // not to be kept: a login may come to serve the image any time
	}
	registry := registryOf(image)
	if address, err := config.ParseAddress(registry); err == nil {
		asked <- address
		cred, err := sys.session(patienceForDocker).Credential(ctx, session.Request{Address: address})
		var e *session.Error
		switch {
		case errors.As(err, &e) && e.Outcome == session.NotOurs:
		case e != nil && e.Outcome == session.NotLoggedIn:
			e.Remedy = "set DTZ_API_KEY_FILE in the plugin's configuration" // a node has no keychain to log in to
			return "", e
		case err != nil:
			return "", err
		default:
			for _, note := range cred.Notes {
				sys.warn(address.String() + ": " + note)
			}
			// As the image spells it, :443 and upper case included: the kubelet
			// compares it with the image byte by byte, the port too.
			answer.Auth = map[string]kubeletAuth{registry: {cred.Username, cred.Secret.Reveal()}}
			answer.CacheDuration = kubeletMayKeep(cred, sys.now()).String()
		}
	}
	text, err := json.Marshal(answer)
	return string(text) + "\n", err
}

// requestedImage reads a CredentialProviderRequest. Fields that it does not know
// are a newer kubelet's, as serviceAccountToken was in 1.33; they are passed
// over. Its errors quote no value but those that say what the request is.
func requestedImage(data []byte) (string, error) {
	// encoding/json takes a name of other case for the field's as well, which the
	// kubelet's own decoder does not. A map knows the exact name only.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return "", errors.New("standard input holds no request of the kubelet, which is a JSON object; docs/kubelet.md has one to try by hand")
	}
	text := func(name string) (value string) {
		_ = json.Unmarshal(fields[name], &value) // what is no text counts as missing
		return value
	}
	if kind := text("kind"); kind != "CredentialProviderRequest" {
		return "", fmt.Errorf("the request on standard input is of kind %q and not CredentialProviderRequest", oauth.Clean(kind))
	}
	if version := text("apiVersion"); version != kubeletAPI {
		return "", fmt.Errorf("the kubelet speaks %q and not %s; set apiVersion in the plugin's CredentialProviderConfig to that", oauth.Clean(version), kubeletAPI)
	}
	image := text("image")
	if image == "" {
		return "", errors.New("the kubelet's request names no image")
	}
	return image, nil
}

// registryOf is the registry in an image's name, as it stands there, or "" where
// the name means Docker Hub: without a dot, a colon or upper case the first part
// is somebody's name there (github.com/distribution/reference, normalize.go).
func registryOf(image string) string {
	host, _, found := strings.Cut(image, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" && host == strings.ToLower(host) {
		return ""
	}
	return host
}

const (
	// longPull is what must be left of a token that the kubelet hands out: the
	// container runtime presents it at each layer anew.
	longPull = 10 * time.Minute
	// keepKey is for an API key, which is handed out only while the identity
	// service is away.
	keepKey = time.Minute
)

// kubeletMayKeep is how long the kubelet may keep a credential without asking
// again, in whole seconds. It is at most half of the token's remaining life, so
// that a login that must be renewed in time is asked for in time.
func kubeletMayKeep(cred *session.Credential, now time.Time) time.Duration {
	if cred.Username != session.UserBearer {
		return keepKey
	}
	left := cred.Expires.Sub(now)
	return max(0, min(left/2, left-longPull)).Truncate(time.Second)
}
