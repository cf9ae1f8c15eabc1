package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/remote"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// service is an identity service.
type service struct {
	*machine
	url string // base URL
	bad failures

	away time.Duration // how far the clock here is ahead of its
	told bool          // whether it said what time it is
}

var serviceChecks = []check[*service]{
	{"identity", []string{"settings", "environment"}, (*service).identity},
	{"clock", []string{"identity"}, (*service).clock},
}

// services are the identity services of the targets.
func (m *machine) services(bad failures) []*service {
	urls := map[string]bool{}
	for _, t := range m.targets {
		if !t.windows && t.identity != "" {
			urls[t.identity] = true
		}
	}
	if len(urls) == 0 {
		urls[""] = true // to say what was not looked at
	}
	var list []*service
	for _, url := range slices.Sorted(maps.Keys(urls)) {
		list = append(list, &service{machine: m, url: url, bad: maps.Clone(bad)})
	}
	return list
}

// identity asks the identity service for the time.
func (s *service) identity(ctx context.Context) Finding {
	if s.url == "" {
		return skipped("no login needs one")
	}
	client, err := s.session.Identity(s.url)
	if err != nil {
		return failed("mend "+s.session.ConfigPath, "%v", err)
	}
	before := s.Now()
	date, err := client.Clock(ctx)
	if err != nil {
		return s.unreached(err)
	}
	s.told = !date.IsZero()
	// The date is cut to the second, and the answer was on its way.
	if late := date.Sub(s.Now()); late > 0 {
		s.away = -late
	} else if early := before.Sub(date.Add(time.Second)); early > 0 {
		s.away = early
	}
	return ok("%s answers", s.url)
}

func (s *service) unreached(err error) Finding {
	var e *oauth.Error
	if !errors.As(err, &e) {
		return failed("", "%s: %v", s.url, err)
	}
	if isOutOfDate(err) {
		return failed(s.clockRemedy(), "the certificate of %s is not valid now: %s", s.url, e.Msg)
	}
	if isCertificate(err) {
		return failed(trustRemedy, "%s is not who it should be: %s", s.url, e.Msg)
	}
	if e.Status != 0 {
		return failed("try again later; it is not this machine's fault", "%s answers %d %s", s.url, e.Status, http.StatusText(e.Status))
	}
	return failed(fmt.Sprintf("check the network, HTTPS_PROXY and the address; %q may say more", "curl -v "+s.url), "%s is out of reach: %s", s.url, e.Msg)
}

const trustRemedy = "behind a company's proxy, SSL_CERT_FILE has to name the file of its certificates: export SSL_CERT_FILE=/path/to/ca.pem"

func isCertificate(err error) bool {
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &certificate)
}

// isOutOfDate reports whether a certificate is good but for the time: it has
// ended or is still to begin, by the clock here.
func isOutOfDate(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

// clockRemedy is for what may be the clock's fault.
func (m *machine) clockRemedy() string {
	remedy := fmt.Sprintf("if the clock here is wrong, which says %s, set it", m.Now().UTC().Format("2006-01-02 15:04 UTC"))
	if command := ClockCommand(m.GOOS); command != "" {
		remedy += ": " + command
	}
	return remedy + "; else the certificate has to be renewed there"
}

// Leeway is how far clocks may be apart: what the registry allows for.
const Leeway = time.Minute

// clock: tokens are judged by the clock of whoever is given them.
func (s *service) clock(context.Context) Finding {
	switch {
	case s.url == "":
		return skipped("no login needs one")
	case !s.told:
		return skipped("the identity service does not tell the time")
	case s.away > Leeway:
		return failed(ClockCommand(s.GOOS), "the clock is %s ahead of the identity service's", session.InWords(s.away))
	case s.away < -Leeway:
		return failed(ClockCommand(s.GOOS), "the clock is %s behind the identity service's", session.InWords(-s.away))
	}
	return ok("agrees with the identity service's")
}

// ClockCommand sets the clock from the network, by operating system; "" where no
// such command is known.
func ClockCommand(goos string) string {
	return map[string]string{
		"linux":   "sudo timedatectl set-ntp true",
		"darwin":  "sudo sntp -sS time.apple.com",
		"windows": "w32tm /resync",
	}[goos]
}

// registry asks the registry whether it takes the credential.
func (t *target) registry(ctx context.Context) Finding {
	if t.windows {
		return inWindows()
	}
	r, err := t.Registry(t.address)
	if err != nil {
		return failed("", "%v", err)
	}
	err = r.Check(ctx, t.cred.Username, t.cred.Secret)
	var e *remote.Error
	switch {
	case err == nil:
		return ok("it takes the token")
	case !errors.As(err, &e):
		return failed("", "%v", err)
	case e.Denied():
		t.denied = e
		return ok("it knows the token")
	case e.Refused():
		return failed("is it the registry that the login is for? If so, "+t.logIn(),
			"it refuses the token: %v", e)
	case isOutOfDate(err):
		return failed(t.clockRemedy(), "the certificate of %s is not valid now: %s", t.address, e.Msg)
	case isCertificate(err):
		return failed(trustRemedy, "%s is not who it should be: %s", t.address, e.Msg)
	case e.Unreachable() && e.Status == 0:
		return failed(fmt.Sprintf("check the network and HTTPS_PROXY; %q may say more", "curl -v "+urlOf(e)+"/v2/"), "it is out of reach: %s", e.Msg)
	case e.Unreachable():
		return failed("try again later; it is not this machine's fault", "%v", e)
	}
	return failed("check the address: is that a registry?", "%v", e)
}

// service: the registry has to be enabled in each context, once.
func (t *target) service(context.Context) Finding {
	switch {
	case t.windows:
		return inWindows()
	case t.denied == nil:
		return ok("enabled for %s", t.claims.Context)
	}
	return failed(t.enable(), "not enabled for %s: %s", t.claims.Context, t.denied)
}

// enable is the command that enables the registry (POST /enable).
func (t *target) enable() string {
	token := program + " token"
	if t.options.Profile != "" {
		token += " --profile " + t.options.Profile
	} else if t.address != platform.RegistryHost {
		token += " --registry " + string(t.address)
	}
	return fmt.Sprintf("%s --header | curl -H @- -X POST %s/api/2023-12-28/enable", token, urlOf(t.denied))
}

// urlOf is where the registry is, as it was asked: what is to be pasted sends a
// token no other way.
func urlOf(e *remote.Error) string { return e.Scheme + "://" + e.Address }
