package identity

import (
	"net/http"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

func (s *Service) listContexts(w http.ResponseWriter, r *http.Request) error {
	c, err := s.bearer(r)
	if err != nil {
		return err
	}
	type entry struct {
		ContextID string `json:"contextId"`
	}
	contexts := make([]entry, len(c.user.Contexts))
	for i, id := range c.user.Contexts {
		contexts[i].ContextID = id
	}
	return reply(w, contexts)
}

// me counts the caller's roles in each context.
func (s *Service) me(w http.ResponseWriter, r *http.Request) error {
	c, err := s.authenticate(r)
	if err != nil {
		return err
	}
	type entry struct {
		ContextID string `json:"contextId"`
		Count     int    `json:"count"`
	}
	roles := make([]entry, len(c.user.Contexts))
	for i, context := range c.user.Contexts {
		roles[i].ContextID = context
		for _, role := range c.user.Roles {
			if platform.SameContext(role[strings.LastIndex(role, "/")+1:], context) {
				roles[i].Count++
			}
		}
	}
	return reply(w, map[string]any{"roles": roles})
}

func (s *Service) email(w http.ResponseWriter, r *http.Request) error {
	c, err := s.authenticate(r)
	if err != nil {
		return err
	}
	if c.user.Email == "" {
		return refuse(http.StatusNotFound, "this identity has no e-mail address")
	}
	return reply(w, map[string]string{"email": c.user.Email})
}
